"""The study in small: its jobs, what each does, and the tables of what they found."""
