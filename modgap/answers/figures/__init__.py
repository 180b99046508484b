"""The house style of figures, on seaborn: each module draws one kind of mark from a tidy data frame."""
