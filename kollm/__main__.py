"""`python -m kollm`, and `accelerate launch -m kollm generate ...` for several GPUs."""

from __future__ import annotations

from kollm.cli import main

if __name__ == "__main__":
    main()
