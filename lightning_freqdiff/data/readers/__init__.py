"""From files to arrays: NumPy files, tables, folders, published originals."""
