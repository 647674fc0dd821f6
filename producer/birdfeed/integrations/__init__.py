"""Small bridges to web frameworks. birdfeed works in all of them without; these start and stop it with the program."""
