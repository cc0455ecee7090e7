//! What each kind of shop sells: base products, by brand and size. The brands are invented.

/// A base product; the shelf has each brand in each size.
#[derive(Debug)]
pub struct Base {
    pub category: &'static str,
    pub name: &'static str,
    pub brands: &'static [&'static str],
    /// A label and its price in cents of a US dollar.
    pub sizes: &'static [(&'static str, u32)],
    pub taxed: bool,
    /// Sold by the kilogram.
    pub weighed: bool,
    /// The most units that one ticket usually takes.
    pub most: u32,
}

const fn goods(
    category: &'static str,
    name: &'static str,
    brands: &'static [&'static str],
    sizes: &'static [(&'static str, u32)],
    most: u32,
) -> Base {
    Base { category, name, brands, sizes, taxed: true, weighed: false, most }
}

/// Free of IVA: basic food, medicines.
const fn exempt(base: Base) -> Base {
    Base { taxed: false, ..base }
}

const fn by_weight(category: &'static str, name: &'static str, cents: &'static [(&'static str, u32)]) -> Base {
    Base { category, name, brands: &[""], sizes: cents, taxed: false, weighed: true, most: 3 }
}

pub const ABASTO: &[Base] = &[
    exempt(goods("Víveres", "Harina de maíz", &["Doña Elena", "El Fogón"], &[("1 kg", 125)], 4)),
    exempt(goods("Víveres", "Arroz", &["La Garza", "Doña Elena"], &[("900 g", 130), ("5 kg", 640)], 3)),
    exempt(goods("Víveres", "Pasta larga", &["Nonna Rita", "La Garza"], &[("500 g", 95), ("1 kg", 180)], 3)),
    exempt(goods("Víveres", "Pasta corta", &["Nonna Rita", "La Garza"], &[("500 g", 95), ("1 kg", 180)], 3)),
    exempt(goods("Víveres", "Azúcar", &["Cañaveral"], &[("1 kg", 135)], 3)),
    exempt(goods("Víveres", "Sal", &["Araya"], &[("1 kg", 45)], 1)),
    exempt(goods("Víveres", "Caraotas negras", &["El Fogón", "La Garza"], &[("500 g", 165)], 2)),
    exempt(goods("Víveres", "Lentejas", &["El Fogón"], &[("500 g", 150)], 2)),
    exempt(goods("Víveres", "Café molido", &["Monte Alto", "Don Julián"], &[("200 g", 265), ("500 g", 610)], 2)),
    exempt(goods("Víveres", "Atún en lata", &["Mar Azul", "Araya"], &[("140 g", 175)], 4)),
    exempt(goods("Víveres", "Sardinas", &["Mar Azul"], &[("170 g", 85)], 4)),
    goods("Víveres", "Aceite de maíz", &["Girasol Real", "Doña Elena"], &[("1 L", 365)], 2),
    goods("Víveres", "Mayonesa", &["Girasol Real", "La Abuela"], &[("175 g", 140), ("445 g", 315)], 1),
    goods("Víveres", "Salsa de tomate", &["La Abuela"], &[("397 g", 185)], 1),
    exempt(goods("Lácteos", "Leche en polvo", &["Los Llanos", "Campo Verde"], &[("400 g", 480), ("900 g", 1035)], 1)),
    exempt(goods("Lácteos", "Leche líquida", &["Los Llanos", "Campo Verde"], &[("1 L", 195)], 3)),
    goods("Lácteos", "Mantequilla", &["Campo Verde"], &[("200 g", 290)], 1),
    goods("Lácteos", "Yogur firme", &["Campo Verde"], &[("fresa", 110), ("durazno", 110), ("natural", 105)], 4),
    by_weight("Charcutería", "Queso blanco duro", &[("por kg", 620)]),
    by_weight("Charcutería", "Jamón de espalda", &[("por kg", 780)]),
    by_weight("Charcutería", "Mortadela", &[("por kg", 440)]),
    by_weight("Carnicería", "Carne molida", &[("por kg", 680)]),
    by_weight("Carnicería", "Pollo entero", &[("por kg", 320)]),
    by_weight("Frutas y verduras", "Tomate", &[("por kg", 160)]),
    by_weight("Frutas y verduras", "Cebolla", &[("por kg", 140)]),
    by_weight("Frutas y verduras", "Papa", &[("por kg", 120)]),
    by_weight("Frutas y verduras", "Plátano", &[("por kg", 100)]),
    by_weight("Frutas y verduras", "Cambur", &[("por kg", 80)]),
    goods("Bebidas", "Refresco", &["Frescolín", "Kolá"], &[("355 ml", 75), ("1,5 L", 165), ("2 L", 210)], 4),
    goods("Bebidas", "Agua mineral", &["Manantial"], &[("600 ml", 55), ("1,5 L", 95), ("5 L", 220)], 4),
    goods("Bebidas", "Malta", &["Roraima"], &[("222 ml", 60), ("1,5 L", 230)], 6),
    goods("Golosinas", "Galletas", &["La Merienda"], &[("vainilla", 85), ("chocolate", 95), ("coco", 90)], 3),
    goods("Golosinas", "Chocolate", &["Barlovento"], &[("30 g", 105), ("100 g", 290)], 3),
    goods("Limpieza", "Detergente en polvo", &["Brisa", "Nube"], &[("400 g", 125), ("1 kg", 285)], 2),
    goods("Limpieza", "Cloro", &["Nube"], &[("1 L", 95)], 2),
    goods("Limpieza", "Jabón de lavar", &["Brisa"], &[("200 g", 80)], 3),
    goods("Higiene", "Papel higiénico", &["Suavel", "Nube"], &[("4 rollos", 190), ("12 rollos", 520)], 2),
    goods("Higiene", "Jabón de baño", &["Suavel", "Brisa"], &[("110 g", 90)], 3),
    goods("Higiene", "Champú", &["Suavel"], &[("400 ml", 365)], 1),
    goods("Higiene", "Crema dental", &["Blanquísima"], &[("75 ml", 150), ("150 ml", 265)], 1),
];

pub const CAFETERIA: &[Base] = &[
    goods("Café", "Café negro", &[""], &[("pequeño", 60), ("grande", 95)], 3),
    goods("Café", "Café marrón", &[""], &[("pequeño", 75), ("grande", 115)], 3),
    goods("Café", "Café con leche", &[""], &[("pequeño", 85), ("grande", 130)], 3),
    goods("Café", "Capuchino", &[""], &[("clásico", 190), ("vainilla", 220), ("caramelo", 220)], 2),
    goods("Café", "Mocaccino", &[""], &[("vaso", 240)], 2),
    goods("Café", "Chocolate caliente", &[""], &[("taza", 210)], 2),
    goods("Panadería", "Cachito", &[""], &[("jamón", 165), ("queso", 165), ("pavo y queso", 195)], 4),
    goods("Panadería", "Croissant", &[""], &[("sencillo", 130), ("chocolate", 185), ("almendra", 210)], 3),
    goods("Panadería", "Golfeado", &[""], &[("sencillo", 140), ("con queso", 195)], 3),
    exempt(goods("Panadería", "Pan canilla", &[""], &[("unidad", 55)], 4)),
    exempt(goods("Panadería", "Pan campesino", &[""], &[("unidad", 145)], 2)),
    goods("Panadería", "Pan de jamón", &[""], &[("mediano", 980), ("grande", 1450)], 1),
    goods("Comida", "Empanada", &[""], &[("queso", 120), ("carne", 140), ("pollo", 140), ("cazón", 170)], 5),
    goods("Comida", "Arepa", &[""], &[("queso", 260), ("reina pepiada", 385), ("pelúa", 410), ("dominó", 320)], 3),
    goods("Comida", "Tequeños", &[""], &[("5 unidades", 290), ("10 unidades", 540)], 2),
    goods("Comida", "Sándwich", &[""], &[("jamón y queso", 320), ("club", 560), ("vegetal", 350)], 2),
    goods("Comida", "Ensalada", &[""], &[("césar", 590), ("de la casa", 480)], 2),
    goods("Jugos", "Jugo natural", &[""], &[("naranja", 180), ("parchita", 170), ("mango", 175), ("lechosa", 165)], 3),
    goods("Jugos", "Batido", &[""], &[("fresa", 235), ("cambur", 210), ("durazno", 235)], 2),
    goods("Jugos", "Papelón con limón", &[""], &[("vaso", 120), ("jarra", 380)], 2),
    goods("Bebidas", "Agua", &["Manantial"], &[("600 ml", 80)], 3),
    goods("Bebidas", "Refresco", &["Frescolín", "Kolá"], &[("355 ml", 110)], 3),
    goods("Dulces", "Torta", &[""], &[("tres leches", 310), ("chocolate", 295), ("zanahoria", 260), ("queso", 330)], 2),
    goods("Dulces", "Quesillo", &[""], &[("porción", 220)], 2),
];

pub const FARMACIA: &[Base] = &[
    exempt(goods(
        "Analgésicos",
        "Acetaminofén",
        &["Genal", "Farmavida"],
        &[("500 mg x 10", 120), ("650 mg x 10", 160)],
        3,
    )),
    exempt(goods(
        "Analgésicos",
        "Ibuprofeno",
        &["Genal", "Farmavida"],
        &[("400 mg x 10", 185), ("600 mg x 10", 240)],
        2,
    )),
    exempt(goods("Analgésicos", "Diclofenac", &["Genal"], &[("50 mg x 20", 310), ("gel 30 g", 420)], 1)),
    exempt(goods("Antialérgicos", "Loratadina", &["Genal", "Andina"], &[("10 mg x 10", 220)], 2)),
    exempt(goods("Antialérgicos", "Cetirizina", &["Andina"], &[("10 mg x 10", 260), ("jarabe 60 ml", 450)], 1)),
    exempt(goods("Antibióticos", "Amoxicilina", &["Farmavida"], &[("500 mg x 12", 580), ("suspensión", 690)], 2)),
    exempt(goods("Antibióticos", "Azitromicina", &["Andina"], &[("500 mg x 3", 610)], 2)),
    exempt(goods("Cardiología", "Losartán", &["Genal", "Andina"], &[("50 mg x 30", 540), ("100 mg x 30", 880)], 3)),
    exempt(goods("Cardiología", "Amlodipina", &["Genal"], &[("5 mg x 30", 460), ("10 mg x 30", 690)], 3)),
    exempt(goods("Cardiología", "Aspirina", &["Farmavida"], &[("81 mg x 30", 270)], 2)),
    exempt(goods("Diabetes", "Metformina", &["Genal", "Andina"], &[("500 mg x 30", 390), ("850 mg x 30", 520)], 3)),
    exempt(goods("Gastro", "Omeprazol", &["Genal", "Farmavida"], &[("20 mg x 14", 330)], 2)),
    exempt(goods("Gastro", "Antiácido", &["Gastrín"], &[("suspensión 180 ml", 410), ("x 12 tabletas", 230)], 1)),
    exempt(goods("Gastro", "Suero oral", &["Hidralín"], &[("sobre", 90), ("500 ml", 260)], 4)),
    exempt(goods("Gripe", "Antigripal", &["Andina", "Farmavida"], &[("x 6 sobres", 290), ("x 10 cápsulas", 340)], 2)),
    exempt(goods("Gripe", "Jarabe para la tos", &["Pulmín"], &[("120 ml", 470)], 1)),
    goods("Vitaminas", "Vitamina C", &["Vitasol"], &[("500 mg x 30", 560), ("efervescente x 10", 430)], 2),
    goods("Vitaminas", "Complejo B", &["Vitasol"], &[("x 30", 620)], 1),
    goods("Primeros auxilios", "Alcohol", &["Botica"], &[("120 ml", 110), ("500 ml", 290)], 2),
    goods("Primeros auxilios", "Gasas estériles", &["Botica"], &[("x 10", 180)], 2),
    goods("Primeros auxilios", "Curitas", &["Botica"], &[("x 20", 130), ("x 100", 480)], 2),
    goods("Bebé", "Pañales", &["Nenito"], &[("M x 30", 980), ("G x 28", 1020), ("XG x 26", 1060)], 2),
    goods("Bebé", "Toallitas húmedas", &["Nenito", "Suavel"], &[("x 80", 310)], 2),
    goods("Cuidado personal", "Protector solar", &["Caribe"], &[("FPS 50", 1290)], 1),
    goods("Cuidado personal", "Desodorante", &["Suavel", "Vital"], &[("50 ml", 340)], 2),
];

pub const FERRETERIA: &[Base] = &[
    goods("Electricidad", "Bombillo LED", &["Luminar", "Voltio"], &[("9 W", 160), ("12 W", 215), ("18 W", 340)], 6),
    goods("Electricidad", "Tomacorriente doble", &["Voltio"], &[("blanco", 265)], 4),
    goods("Electricidad", "Interruptor", &["Voltio"], &[("sencillo", 190), ("doble", 280)], 4),
    goods("Electricidad", "Cable", &["Conduval"], &[("#12 metro", 85), ("#14 metro", 60), ("#10 metro", 130)], 20),
    goods("Electricidad", "Cinta eléctrica", &["Conduval"], &[("18 m", 140)], 2),
    goods("Electricidad", "Breaker", &["Voltio"], &[("20 A", 640), ("40 A", 890)], 2),
    goods("Plomería", "Tubo PVC", &["Tubosur"], &[("1/2 x 3 m", 320), ("3/4 x 3 m", 460), ("2 x 3 m", 890)], 4),
    goods("Plomería", "Codo PVC", &["Tubosur"], &[("1/2", 35), ("3/4", 50), ("2", 120)], 8),
    goods("Plomería", "Pegamento PVC", &["Tubosur"], &[("1/32 gal", 290), ("1/16 gal", 480)], 1),
    goods("Plomería", "Teflón", &["Sello"], &[("1/2 x 10 m", 60)], 3),
    goods("Plomería", "Llave de paso", &["Aquaval"], &[("1/2", 540), ("3/4", 780)], 2),
    goods("Plomería", "Grifo", &["Aquaval"], &[("lavamanos", 1650), ("fregadero", 2380)], 1),
    goods(
        "Pintura",
        "Pintura de caucho",
        &["Arcoíris", "Mural"],
        &[("blanco gal", 1890), ("hueso gal", 1890), ("ladrillo gal", 2050)],
        3,
    ),
    goods("Pintura", "Esmalte", &["Arcoíris"], &[("negro 1/4", 780), ("blanco 1/4", 780)], 2),
    goods("Pintura", "Brocha", &["Mural"], &[("2 pulg", 210), ("3 pulg", 330)], 3),
    goods("Pintura", "Rodillo", &["Mural"], &[("9 pulg", 480)], 2),
    goods("Construcción", "Cemento", &["Roca Fuerte"], &[("saco 42,5 kg", 920)], 10),
    goods("Construcción", "Cabilla", &["Acerval"], &[("3/8 x 6 m", 610), ("1/2 x 6 m", 1080)], 12),
    goods("Construcción", "Bloque", &["Roca Fuerte"], &[("10 cm", 75), ("15 cm", 95)], 50),
    goods("Herramientas", "Martillo", &["Forja"], &[("16 oz", 980)], 1),
    goods("Herramientas", "Destornillador", &["Forja"], &[("plano", 290), ("estría", 290)], 2),
    goods("Herramientas", "Alicate", &["Forja"], &[("8 pulg", 840)], 1),
    goods("Herramientas", "Cinta métrica", &["Forja"], &[("5 m", 420)], 1),
    goods("Herramientas", "Disco de corte", &["Forja"], &[("4 1/2 metal", 165)], 5),
    goods("Tornillería", "Tornillos", &["Acerval"], &[("drywall x 50", 190), ("madera x 50", 230)], 3),
    goods("Tornillería", "Ramplug", &["Acerval"], &[("1/4 x 50", 150)], 2),
    goods("Cerrajería", "Candado", &["Seguro"], &[("40 mm", 690), ("60 mm", 1180)], 2),
    goods("Cerrajería", "Cerradura", &["Seguro"], &[("de pomo", 1490), ("de seguridad", 3650)], 1),
];

pub const BAR: &[Base] = &[
    goods("Cervezas", "Cerveza", &["Roraima", "Costa Brava", "Negra Hipólita"], &[("botella", 150), ("jarra", 320)], 8),
    goods("Cervezas", "Tobo de cervezas", &["Roraima", "Costa Brava"], &[("6 botellas", 790)], 3),
    goods("Cocteles", "Cuba libre", &[""], &[("vaso", 380)], 4),
    goods("Cocteles", "Mojito", &[""], &[("clásico", 450), ("parchita", 490)], 4),
    goods("Cocteles", "Piña colada", &[""], &[("vaso", 480)], 3),
    goods("Cocteles", "Guarapita", &[""], &[("vaso", 290), ("jarra", 980)], 3),
    goods("Cocteles", "Margarita", &[""], &[("clásica", 520), ("tamarindo", 560)], 3),
    goods("Licores", "Ron añejo", &["Hacienda Ocho", "El Tonel"], &[("trago", 310), ("botella", 2850)], 4),
    goods("Licores", "Whisky 12 años", &["Glen Ávila"], &[("trago", 690), ("botella", 6200)], 3),
    goods("Licores", "Ginebra", &["Páramo"], &[("trago", 420)], 3),
    goods("Licores", "Cocuy", &["Larense"], &[("trago", 260)], 4),
    goods("Vinos", "Vino tinto", &["Cepa del Sur"], &[("copa", 490), ("botella", 2290)], 3),
    goods("Vinos", "Sangría", &[""], &[("copa", 390), ("jarra", 1480)], 2),
    goods("Raciones", "Tequeños", &[""], &[("ración de 10", 690)], 2),
    goods("Raciones", "Tostones", &[""], &[("con queso", 580), ("playeros", 640)], 2),
    goods("Raciones", "Alitas", &[""], &[("8 unidades", 890), ("16 unidades", 1590)], 2),
    goods("Raciones", "Parrilla mixta", &[""], &[("2 personas", 2190), ("4 personas", 3980)], 1),
    goods("Raciones", "Papas fritas", &[""], &[("ración", 390)], 2),
    goods("Raciones", "Ceviche", &[""], &[("ración", 980)], 2),
    goods("Sin alcohol", "Refresco", &["Frescolín", "Kolá"], &[("355 ml", 180)], 4),
    goods("Sin alcohol", "Agua", &["Manantial"], &[("600 ml", 150)], 3),
    goods("Sin alcohol", "Limonada", &[""], &[("frappé", 290)], 3),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goods_by_weight_cost_steps_of_twenty_cents() {
        let kinds = [ABASTO, CAFETERIA, FARMACIA, FERRETERIA, BAR];
        assert!(kinds.iter().map(|bases| bases.len()).sum::<usize>() >= 120);
        for base in kinds.into_iter().flatten() {
            assert!(
                base.sizes.iter().all(|(_, cents)| *cents > 0 && (!base.weighed || cents % 20 == 0)),
                "{}",
                base.name
            );
        }
    }
}
