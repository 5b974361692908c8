"""What a run leaves behind: draws, their statistics, the file that holds them, and the run folder."""
