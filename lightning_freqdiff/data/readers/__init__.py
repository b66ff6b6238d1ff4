"""From files to arrays: NumPy files, tables, folders, and the raw files of published data sets."""
