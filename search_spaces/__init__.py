"""What can be searched: operators, expressions, spaces. Depends on nothing else of this project."""
