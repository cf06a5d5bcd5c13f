"""One recipe a network: its numbers as a frozen dataclass, and the function that trains from them."""
