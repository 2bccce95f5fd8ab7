"""The teacher: tasks asked of any OpenAI-compatible endpoint, every reply checked, recorded, and never paid twice."""
