select checkpoint_id, name from checkpoints
