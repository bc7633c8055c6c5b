"""The frame of every training: run folder, resume, log, previews."""
