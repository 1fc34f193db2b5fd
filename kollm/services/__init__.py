"""What is asked over a network or loaded from others: chat, the ledger of purchases, prices, repositories."""
