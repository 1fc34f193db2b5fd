"""The ground: what every wing may import, and what imports none of them."""
