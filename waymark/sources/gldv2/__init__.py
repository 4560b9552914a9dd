"""Google Landmarks Dataset v2: a few million pictures of landmarks, in tars on a server."""
