"""What can be mixed in every architecture of transformers: the table and how it is made."""
