"""Readers of files in packages: data of R, texts, molecules, tables of SQLite, and samples that are rendered."""
