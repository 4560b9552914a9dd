"""What is in MLflow, from the first epoch to the champion; nothing here is a dependency of a stage that computes.

A stage starts `publish`, which logs its run (`runs`, in the `store`) while it trains. `register` makes the best models
on val versions of the registry and calls them challenger; `promotion` compares the challenger with the champion
(`rescore`, `smoke`), keeps the `evidence` and moves the alias (`versions`). `origin` and `drift` look back at what a
version was made from, `retention` says which runs and versions may go.
"""
