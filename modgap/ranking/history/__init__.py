"""History: errors of sources on earlier targets, and what they tell about a new one."""
