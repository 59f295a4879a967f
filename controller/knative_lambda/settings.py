"""Settings of the controller: environment, file and flags, validated in one place."""
