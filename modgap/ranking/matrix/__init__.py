"""Rankings of many sources for many targets: one list of independent jobs, and the matrix of their results."""
