"""The part of a page that answers the reader's hand: charts to point at, and sliders that ask the law."""
