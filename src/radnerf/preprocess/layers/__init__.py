"""What lies behind one another: the background, the torso before it, the person before both."""
