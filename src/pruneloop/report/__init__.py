"""What people look at: the lines of a run, its page and pictures, its card, a sweep's page.

Everything is made from the files of the run folder (`pruneloop.records`) alone.
"""
