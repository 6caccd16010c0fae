"""What results say in two or three plain sentences, by rules on the numbers and their bounds."""
