"""Rankings of many sources for many targets, as independent jobs that any number of workers share."""
