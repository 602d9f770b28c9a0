"""A model that is given away: a folder in the released layout, with a card made from the records."""
