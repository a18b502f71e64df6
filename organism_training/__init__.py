"""How the organisms were made: `python -m organism_training.train KIND --out DIR`, from a checkout."""
