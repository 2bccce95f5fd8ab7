"""The pipeline over slices of the training rows: many workers at once, each in bounded memory, and what joins them."""
