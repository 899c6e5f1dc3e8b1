"""Colours that people with any colour vision tell apart (Okabe and Ito, 2008), for pictures on paper and on screens."""

BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
)
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK)
GREY = "#8A8F98"
"""Legible on white and on black; stands in for black where the background may be either."""
ON_SCREEN = (BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY)
