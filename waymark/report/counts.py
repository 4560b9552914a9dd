"""Plots of how many: records dropped, records by split, pictures by landmark."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from waymark.report.theme import PALETTE, QUIET, SPLIT_COLOURS, figure, log_ticks, note_figure, plain

MOST_LANDMARKS = 100

# From so many times the least to the most pictures on, a linear axis would show the largest alone.
LONG_TAIL = 10

# More names than these would overlap below the bars; the hover text tells them all.
_MOST_NAMES = 40


def landmark_histogram(landmarks: pd.DataFrame) -> go.Figure:
    """Number of pictures of the 100 landmarks that have most; on a logarithmic axis where the tail is long.

    Args:
        landmarks: columns `landmark`, `name`, `images`.
    """
    if landmarks.empty:
        return note_figure("No record has a landmark.")
    ordered = landmarks.sort_values(["images", "landmark"], ascending=[False, True]).head(MOST_LANDMARKS)
    place = np.arange(1, len(ordered) + 1)
    names = [plain(name, longest=60) for name in ordered["name"].fillna(ordered["landmark"])]
    drawn = figure(height=380)
    drawn.add_bar(
        x=place,
        y=ordered["images"].to_numpy(),
        marker={"color": PALETTE[0]},
        text=names,
        textposition="none",
        hovertemplate="%{text}<br>%{y:,} pictures<extra></extra>",
    )
    most = max(float(ordered["images"].max()), 1)
    if most >= LONG_TAIL * max(float(ordered["images"].min()), 1):
        ends = [np.log10(0.7), np.log10(1.4 * most)]
        drawn.update_yaxes(type="log", title_text="pictures (log scale)", range=ends, **log_ticks(1, 1.4 * most))
    else:
        drawn.update_yaxes(title_text="pictures", rangemode="tozero")
    drawn.update_layout(bargap=0.15, margin={"t": 16})
    if len(ordered) <= _MOST_NAMES:
        short = [plain(name, longest=22) for name in ordered["name"].fillna(ordered["landmark"])]
        drawn.update_xaxes(tickvals=place, ticktext=short, tickangle=-50)
    else:
        drawn.update_xaxes(title_text=f"the {len(ordered)} largest of {len(landmarks):,} landmarks, by rank")
    return drawn


def dropped_reasons(counts: Mapping[str, int]) -> go.Figure:
    """Number of records that were dropped, by reason, the most frequent on top."""
    return _bars({reason: counts[reason] for reason in sorted(counts, key=lambda name: (-counts[name], name))}, {})


def split_counts(counts: Mapping[str, int]) -> go.Figure:
    """Number of records in each split, in the order given."""
    return _bars(counts, SPLIT_COLOURS)


def orientation_counts(counts: Mapping[str, int]) -> go.Figure:
    """Number of pictures that stand upright, lie or are square, in the order given; those without any are left out."""
    return _bars({name: count for name, count in counts.items() if count}, {})


def _bars(counts: Mapping[str, int], colours: Mapping[str, str]) -> go.Figure:
    if not counts:
        return note_figure("Nothing to count.")
    names = list(counts)
    values = [counts[name] for name in names]
    total = sum(values) or 1
    drawn = figure(height=70 + 34 * len(names))
    drawn.add_bar(
        x=values,
        y=list(range(len(names))),
        orientation="h",
        marker={"color": [colours.get(name, PALETTE[0]) for name in names]},
        text=[f"{value:,} · {value / total:.0%}" for value in values],
        textposition="outside",
        textfont={"color": QUIET},
        cliponaxis=False,
        hoverinfo="skip",
    )
    labels = [plain(name, longest=44) for name in names]
    drawn.update_yaxes(
        tickvals=list(range(len(names))), ticktext=labels, autorange="reversed", ticks="", showgrid=False
    )
    drawn.update_xaxes(visible=False, range=[0, max([*values, 1]) * 1.25])
    drawn.update_layout(margin={"l": 20, "r": 20, "t": 16, "b": 16}, bargap=0.35)
    return drawn
