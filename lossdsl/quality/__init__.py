"""What is looked at beside the value: lints, and whether a form is the right one to show."""
