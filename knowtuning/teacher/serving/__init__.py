"""The local teacher's server: OpenAI's protocol over Python functions, with quirks, limits and faults on demand."""
