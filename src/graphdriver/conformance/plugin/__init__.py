"""What any graph driver plugin must do."""
