"""What comes back: labelled arrays that print, make tables, save and load."""
