"""Getting a target's data: where it lies, how it is fetched, unpacked, checked and converted."""
