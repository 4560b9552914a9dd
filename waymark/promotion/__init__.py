"""Whether one model may take the place of another: statistics that know no registry."""
