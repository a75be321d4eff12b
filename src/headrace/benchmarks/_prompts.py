"""What the benchmarks ask for: captions that the embedded text-to-image model was trained on."""

from __future__ import annotations

PROMPTS = (
    "red apple", "grinning face", "dog face", "pizza", "rocket", "snowman", "cat face", "sunflower", "red heart",
    "fire", "banana", "strawberry", "watermelon", "grapes", "birthday cake", "doughnut", "cookie", "frog", "panda",
    "fox", "octopus", "turtle", "butterfly", "cactus", "four leaf clover", "evergreen tree", "rainbow", "crescent moon",
    "automobile", "sailboat", "bicycle", "umbrella", "wrapped gift", "balloon", "guitar", "trophy", "soccer ball",
    "light bulb", "hamburger", "jack-o-lantern",
)  # fmt: skip
