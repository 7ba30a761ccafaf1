"""Speech beside its words: log-mel spectrograms are diffused, and written as WAV."""
