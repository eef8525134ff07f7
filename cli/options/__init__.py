"""Options, settings files and environment: from the command line to one configuration."""
