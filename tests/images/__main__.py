"""Makes all images that tests use: python3 -m images (from the folder tests)."""

from . import cache

for recipe in cache.RECIPES:
    print(cache.get(recipe), flush=True)
