"""Which source to transfer from: scores of transferability on the target's samples, with intervals."""
