// Ranks over targets and the comparison of sources by them. It gives the same letters as modgap.matrix.comparison.
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SIGNIFICANCE = 1 - 0.95;

function midRanks(values) {
  const order = values.map((_, index) => index).sort((a, b) => values[a] - values[b]);
  const ranks = new Array(values.length);
  for (let start = 0; start < order.length;) {
    let end = start;
    while (end < order.length && values[order[end]] === values[order[start]]) end += 1;
    for (let place = start; place < end; place += 1) ranks[order[place]] = (start + end + 1) / 2;
    start = end;
  }
  return ranks;
}

// Ranks of each column of values[row][column], from 1 for the best; null where there is no value.
function rankColumns(values, higherIsBetter) {
  const ranks = values.map((row) => row.map(() => null));
  higherIsBetter.forEach((higher, column) => {
    const known = values.map((_, row) => row).filter((row) => values[row][column] !== null);
    const found = midRanks(known.map((row) => (higher ? -1 : 1) * values[row][column]));
    known.forEach((row, place) => { ranks[row][column] = found[place]; });
  });
  return ranks;
}

// Means of the ranks of each row; a row without a value has the mean of the ranks that are left in the column.
function meanRanks(ranks) {
  const columns = ranks.length ? ranks[0].map((_, column) => column) : [];
  const left = columns.map((column) => (ranks.filter((row) => row[column] !== null).length + 1 + ranks.length) / 2);
  return ranks.map((row) => row.reduce((sum, rank, column) => sum + (rank ?? left[column]), 0) / row.length);
}

// The exact two-sided sign test: differences of zero are left out.
function signTestPValue(differences) {
  const positive = differences.filter((value) => value > 0).length;
  const negative = differences.filter((value) => value < 0).length;
  const [fewer, all] = [Math.min(positive, negative), positive + negative];
  let [logTerm, sum] = [-all * Math.LN2, 0];
  for (let count = 0; count <= fewer; count += 1) {
    sum += Math.exp(logTerm);
    logTerm += Math.log((all - count) / (count + 1));
  }
  return Math.min(1, 2 * sum);
}

function holm(pValues) {
  const order = pValues.map((_, index) => index).sort((a, b) => pValues[a] - pValues[b]);
  const corrected = new Array(pValues.length);
  let largest = 0;
  order.forEach((index, place) => {
    largest = Math.max(largest, pValues[index] * (order.length - place));
    corrected[index] = Math.min(1, largest);
  });
  return corrected;
}

// Compact letter display of Piepho (2004): two rows share a letter exactly if they are not different.
function groupLetters(size, differentPairs) {
  const groups = maximalGroups(size, differentPairs, ALPHABET.length);
  if (groups === null) return Array(size).fill("");
  const members = groups.sort(compareLists);
  return Array.from({ length: size }, (_, row) => {
    return members.map((group, number) => (group.includes(row) ? ALPHABET[number] : "")).join("");
  });
}

// The largest sets of members of which no two are different, as sorted lists; null if there are more than `most`.
function maximalGroups(size, differentPairs, most) {
  const rivals = Array.from({ length: size }, () => new Set());
  for (const [one, other] of differentPairs) {
    rivals[one].add(other);
    rivals[other].add(one);
  }
  const complete = (group) => {
    for (let member = 0; member < size; member += 1) {
      if (!group.some((another) => rivals[member].has(another)) && !group.includes(member)) group.push(member);
    }
    return group.sort((a, b) => a - b);
  };
  const waiting = size ? [complete([])] : [];
  const groups = new Map(waiting.map((group) => [group.join(), group]));
  while (waiting.length) {
    const group = waiting.pop();
    for (let joining = 0; joining < size; joining += 1) {
      if (group.includes(joining)) continue;
      const ahead = group.filter((member) => member < joining && !rivals[joining].has(member));
      const following = complete([...ahead, joining]);
      if (!groups.has(following.join())) {
        groups.set(following.join(), following);
        waiting.push(following);
      }
      if (groups.size > most) return null;
    }
  }
  return [...groups.values()];
}

function compareLists(one, other) {
  const place = one.findIndex((value, index) => value !== other[index]);
  return place < 0 ? one.length - other.length : one[place] - (other[place] ?? -1);
}

// The fewest targets on which the sign test of two of several rows can reject, corrected for all pairs.
function targetsNeeded(size) {
  const pairs = (size * (size - 1)) / 2;
  let targets = 1;
  while (2 ** (1 - targets) * pairs > SIGNIFICANCE) targets += 1;
  return targets;
}

// The order of the rows by mean rank, their mean ranks, and their letters; letters are empty where nothing is tested.
function compareOverTargets(values, higherIsBetter, mostLettered) {
  const ranks = rankColumns(values, higherIsBetter);
  const means = meanRanks(ranks);
  const order = means.map((_, row) => row).sort((a, b) => means[a] - means[b] || a - b);
  const letters = means.map(() => "");
  const complete = order.filter((row) => ranks[row].every((rank) => rank !== null));
  const needed = targetsNeeded(Math.max(2, complete.length));
  const isTested = higherIsBetter.length >= needed && complete.length >= 2 && complete[0] === order[0];
  if (isTested && complete.length <= mostLettered) {
    const pairs = complete.flatMap((_, one) => complete.slice(one + 1).map((__, step) => [one, one + 1 + step]));
    const difference = ([one, other]) => ranks[complete[one]].map((rank, column) => rank - ranks[complete[other]][column]);
    const pValues = holm(pairs.map((pair) => signTestPValue(difference(pair))));
    const found = groupLetters(complete.length, pairs.filter((_, place) => pValues[place] <= SIGNIFICANCE));
    complete.forEach((row, place) => { letters[row] = found[place]; });
  }
  return { order, means, letters, ranks, needed };
}
