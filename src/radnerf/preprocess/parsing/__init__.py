"""Who is where in a frame: head, neck, torso, background, and a soft matte of the person."""
