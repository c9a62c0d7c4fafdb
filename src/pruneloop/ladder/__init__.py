"""`experiment=smallest`: ever smaller models, each an ordinary run, judged as its int8 file."""
