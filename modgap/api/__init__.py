"""The public functions: names or arrays in, results out. `import modgap` offers them."""
