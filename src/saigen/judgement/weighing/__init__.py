"""Two groups of runs over their seeds: is the difference real, and does it matter?"""
