"""Records: which are kept, how they are split, which are alike, and how they change."""
