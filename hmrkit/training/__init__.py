"""Networks trained from motion capture: data, losses, the loop and one recipe a network."""
