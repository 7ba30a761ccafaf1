"""Where documents come from: built-in data sets, folders and stores."""
