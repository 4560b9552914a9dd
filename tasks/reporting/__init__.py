"""What the report shows, gathered from what the stages wrote."""
