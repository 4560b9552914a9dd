"""The servers of Prefect and MLflow: where they listen, who may enter, and what keeps them up."""
