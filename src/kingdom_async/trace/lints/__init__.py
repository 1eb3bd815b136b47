"""What is wrong with a program, while it goes wrong: suspicious tasks, and a blocked loop."""
