"""The command line: one thin file per verb. Importing this room loads no torch; verbs import their work when run."""
