"""attnlab: an experiment template with an ablation grid for efficient visual attention."""
